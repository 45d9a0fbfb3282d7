-- Where the confirmation came from that opened the account; accounts from before have none.
ALTER TABLE accounts
  ADD COLUMN opened_fingerprint digest,
  ADD COLUMN opened_address text,
  ADD COLUMN blocked boolean NOT NULL DEFAULT false;

-- How far the rotation of the refresh tokens has come.
ALTER TABLE sessions
  ADD COLUMN version positive_number NOT NULL DEFAULT 1,
  ADD COLUMN last_used_at timestamptz,
  ADD COLUMN generation whole_number NOT NULL DEFAULT 0,
  ADD COLUMN used boolean NOT NULL DEFAULT false,
  ADD COLUMN spent digest;
ALTER TABLE sessions SET (fillfactor = 80);
ALTER TABLE refresh_tokens ADD COLUMN generation whole_number NOT NULL DEFAULT 0;

-- Who may try passwords for a number, whether or not it has an account.
CREATE TABLE sign_in_guards (
  phone phone_number NOT NULL PRIMARY KEY,
  version positive_number NOT NULL,
  failures whole_number NOT NULL,
  failed_at timestamptz,
  locked_until timestamptz,
  origins text NOT NULL,
  forget_at timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX sign_in_guards_forget_at ON sign_in_guards (forget_at);

-- Requests for a new password, whether or not the number has an account.
CREATE TABLE password_resets (
  phone phone_number NOT NULL PRIMARY KEY,
  version positive_number NOT NULL,
  requests_full_at timestamptz,
  guesses_full_at timestamptz,
  attempts text NOT NULL,
  forget_at timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX password_resets_forget_at ON password_resets (forget_at);

-- The audit trail. Numbers are keyed hashes and masked, so that a line may outlive its account.
CREATE TABLE facts (
  id uuid NOT NULL PRIMARY KEY,
  at timestamptz NOT NULL,
  event text NOT NULL,
  number digest NOT NULL,
  phone text NOT NULL,
  user_id uuid,
  session_id uuid,
  fingerprint digest,
  address text
);
CREATE INDEX facts_number ON facts (number, at);
CREATE INDEX facts_user ON facts (user_id, at) WHERE user_id IS NOT NULL;
CREATE INDEX facts_at ON facts (at);
