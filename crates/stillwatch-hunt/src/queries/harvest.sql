-- The harvested exchanges, account by account in the order of time.
SELECT account_id, time, exchange_id, campaign, score
FROM harvested
ORDER BY account_id, time, exchange_id, score
