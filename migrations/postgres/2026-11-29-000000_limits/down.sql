DELETE FROM limits WHERE part <> 0;
ALTER TABLE limits DROP CONSTRAINT limits_pkey, ADD PRIMARY KEY (key), DROP COLUMN part;
DELETE FROM limits WHERE key NOT LIKE '%:address:%' OR key NOT SIMILAR TO '(sign-up|password-guess|reset):%';
UPDATE limits SET key = 'sign-ups-from:' || substr(key, 17) WHERE key LIKE 'sign-up:%';
UPDATE limits SET key = 'wrong-passwords-from:' || substr(key, 24) WHERE key LIKE 'password-guess:%';
UPDATE limits SET key = 'resets-from:' || substr(key, 15) WHERE key LIKE 'reset:%';
