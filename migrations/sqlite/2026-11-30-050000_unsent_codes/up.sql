-- What a code took that may never be sent, and after how many tries it is certain that nobody has taken it. A code from before counts as one that
-- took nothing of its range: less is returned than could be, never more.
ALTER TABLE sent_codes ADD COLUMN took_of_range INTEGER NOT NULL DEFAULT 0 CHECK (took_of_range IN (0, 1));
ALTER TABLE sent_codes ADD COLUMN tries INTEGER NOT NULL DEFAULT 0 CHECK (tries >= 0);
