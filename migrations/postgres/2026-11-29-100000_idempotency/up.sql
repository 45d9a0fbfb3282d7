-- The first answers to requests with an Idempotency-Key. The digests are keyed, the answer is encrypted; it is NULL while somebody
-- carries the request out.
CREATE TABLE kept_answers (
  request bytea NOT NULL PRIMARY KEY CHECK (length(request) = 32),
  payload bytea NOT NULL CHECK (length(payload) = 32),
  execution uuid NOT NULL,
  leased_until timestamptz NOT NULL,
  answer bytea,
  forget_at timestamptz NOT NULL
);
CREATE INDEX kept_answers_forget_at ON kept_answers (forget_at);
