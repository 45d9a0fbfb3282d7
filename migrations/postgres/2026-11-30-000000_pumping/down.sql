DROP TABLE held_codes;
DROP TABLE sent_codes;
DROP DOMAIN number_range, hold_reason;
DELETE FROM limits WHERE key LIKE 'code:%';
