DELETE FROM limits WHERE key NOT LIKE '%:address:%'
  OR NOT (key LIKE 'sign-up:%' OR key LIKE 'password-guess:%' OR key LIKE 'reset:%');
UPDATE limits SET key = 'sign-ups-from:' || substr(key, 17) WHERE key LIKE 'sign-up:%';
UPDATE limits SET key = 'wrong-passwords-from:' || substr(key, 24) WHERE key LIKE 'password-guess:%';
UPDATE limits SET key = 'resets-from:' || substr(key, 15) WHERE key LIKE 'reset:%';
