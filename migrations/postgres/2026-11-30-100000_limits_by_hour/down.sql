DROP INDEX limits_full_hour;
ALTER TABLE limits DROP COLUMN full_hour;
CREATE INDEX limits_full_at ON limits (full_at);
