-- Decision 33.
CREATE DOMAIN budget_part AS text CHECK (VALUE IN ('shared', 'reserve', 'neither'));

-- What a code took that may never be sent, and after how many tries it is certain that nobody has taken it. A code from before counts as one that
-- took nothing: less is returned than could be, never more.
ALTER TABLE sent_codes
  ADD COLUMN part budget_part NOT NULL DEFAULT 'neither',
  ADD COLUMN took_of_range boolean NOT NULL DEFAULT false,
  ADD COLUMN tries whole_number NOT NULL DEFAULT 0;
