-- Profile: what was seen of an account's exchanges adds up to its profile.
SELECT account_id, profile(seen) AS profile
FROM seen
GROUP BY account_id
