-- The exchanges of the members: the totals of a campaign, and which of a member's
-- exchanges were harvest.
SELECT account_id, exchange_id, traits, route, request_model, response_model,
       client_asn, client_country, user_agent, cost_usd, excerpt
FROM observed
