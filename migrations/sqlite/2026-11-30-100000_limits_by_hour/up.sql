-- Nothing here: SQLite rewrites a row in its place, and its index of `full_at` is small beside what a commit writes.
SELECT 1;
