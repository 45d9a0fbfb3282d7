DROP TABLE accepted_signatures;
ALTER TABLE messages DROP COLUMN merchant;
DROP DOMAIN merchant_id;
DELETE FROM limits WHERE key LIKE '%:merchant:%';
