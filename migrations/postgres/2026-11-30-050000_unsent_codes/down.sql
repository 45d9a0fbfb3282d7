ALTER TABLE sent_codes DROP COLUMN tries;
ALTER TABLE sent_codes DROP COLUMN took_of_range;
ALTER TABLE sent_codes DROP COLUMN part;
DROP DOMAIN budget_part;
