DROP TABLE facts, password_resets, sign_in_guards;
ALTER TABLE refresh_tokens DROP COLUMN generation;
ALTER TABLE sessions DROP COLUMN version, DROP COLUMN last_used_at, DROP COLUMN generation, DROP COLUMN used, DROP COLUMN spent;
ALTER TABLE accounts DROP COLUMN opened_fingerprint, DROP COLUMN opened_address, DROP COLUMN blocked;
