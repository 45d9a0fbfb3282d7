-- The sweep finds budgets that are full again by the hour. What every charge changes must be in no index: then a row is changed within its page, for
-- which each page keeps room, and no index has to follow.
ALTER TABLE limits ADD COLUMN full_hour bigint NOT NULL
  GENERATED ALWAYS AS (floor(extract(epoch FROM full_at - timestamptz 'epoch') / 3600)) STORED;
DROP INDEX limits_full_at;
CREATE INDEX limits_full_hour ON limits (full_hour);
