-- What is limited has names by step and scope; the budget that all commits charge is kept in parts.
UPDATE limits SET key = 'sign-up:address:' || substr(key, 15) WHERE key LIKE 'sign-ups-from:%';
UPDATE limits SET key = 'password-guess:address:' || substr(key, 22) WHERE key LIKE 'wrong-passwords-from:%';
UPDATE limits SET key = 'reset:address:' || substr(key, 13) WHERE key LIKE 'resets-from:%';
ALTER TABLE limits ADD COLUMN part smallint NOT NULL DEFAULT 0, DROP CONSTRAINT limits_pkey, ADD PRIMARY KEY (key, part);
