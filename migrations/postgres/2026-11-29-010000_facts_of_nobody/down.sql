DROP INDEX facts_user;
CREATE INDEX facts_user ON facts (user_id, at) WHERE user_id IS NOT NULL;
