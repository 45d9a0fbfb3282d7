DROP TABLE accepted_signatures;
ALTER TABLE messages DROP COLUMN merchant;
DELETE FROM limits WHERE key LIKE '%:merchant:%';
