-- Observe and profile: every exchange becomes traits, and the traits of an account add
-- up to its profile.
SELECT account_id, profile(traits, account_id) AS profile
FROM traits
GROUP BY account_id
