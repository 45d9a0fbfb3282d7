-- What a code took that may never be sent, and after how many tries it is certain that nobody has taken it. A code from before counts as one that
-- took nothing of its range: less is returned than could be, never more.
ALTER TABLE sent_codes
  ADD COLUMN took_of_range boolean NOT NULL DEFAULT false,
  ADD COLUMN tries bigint NOT NULL DEFAULT 0 CHECK (tries >= 0);
