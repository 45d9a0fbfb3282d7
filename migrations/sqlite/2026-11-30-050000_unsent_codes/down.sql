ALTER TABLE sent_codes DROP COLUMN tries;
ALTER TABLE sent_codes DROP COLUMN took_of_range;
