DROP TABLE held_codes;
DROP TABLE sent_codes;
DELETE FROM limits WHERE key LIKE 'code:%';
