-- Whether the account was opened with the fixed code of a test number.
ALTER TABLE accounts ADD COLUMN is_test boolean NOT NULL DEFAULT false;
