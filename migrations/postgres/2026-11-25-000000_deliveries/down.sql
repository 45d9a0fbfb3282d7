DROP INDEX messages_attempt;
DROP TABLE deliveries;
DROP DOMAIN delivery_state;
ALTER TABLE messages DROP COLUMN in_doubt_with, DROP COLUMN masked;
