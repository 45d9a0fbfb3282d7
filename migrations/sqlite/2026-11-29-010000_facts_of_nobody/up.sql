-- A fact of a number without an account is indexed like any other: its commit takes no less time than one of a number that has one.
DROP INDEX facts_user;
CREATE INDEX facts_user ON facts (user_id, at);
