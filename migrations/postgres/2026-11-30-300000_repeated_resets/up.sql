-- The last reset that was made, for its repeats; resets from before have none. Decision 39.
ALTER TABLE password_resets ADD COLUMN finished text;
