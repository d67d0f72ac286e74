-- How many exchanges each hour of event time has: the course of all traffic, and from
-- it the period under study.
SELECT CAST(time AS BIGINT) / 3600000000 AS hour, COUNT(*) AS exchanges
FROM exchanges
GROUP BY 1
ORDER BY 1
