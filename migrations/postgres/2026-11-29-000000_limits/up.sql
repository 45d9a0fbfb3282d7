-- What is limited has names by step and scope.
UPDATE limits SET key = 'sign-up:address:' || substr(key, 15) WHERE key LIKE 'sign-ups-from:%';
UPDATE limits SET key = 'password-guess:address:' || substr(key, 22) WHERE key LIKE 'wrong-passwords-from:%';
UPDATE limits SET key = 'reset:address:' || substr(key, 13) WHERE key LIKE 'resets-from:%';
