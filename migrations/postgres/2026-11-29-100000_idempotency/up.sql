-- The first answers to requests with an Idempotency-Key. The digests are keyed, the answer is encrypted; it is NULL while somebody
-- carries the request out.
CREATE TABLE kept_answers (
  request digest NOT NULL PRIMARY KEY,
  payload digest NOT NULL,
  execution uuid NOT NULL,
  leased_until timestamptz NOT NULL,
  answer bytea,
  forget_at timestamptz NOT NULL
);
CREATE INDEX kept_answers_forget_at ON kept_answers (forget_at);
