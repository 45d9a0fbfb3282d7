DROP INDEX messages_attempt;
DROP TABLE deliveries;
ALTER TABLE messages DROP COLUMN in_doubt_with, DROP COLUMN masked;
