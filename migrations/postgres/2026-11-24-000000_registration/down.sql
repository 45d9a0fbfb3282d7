DROP TABLE messages, limits, refresh_tokens, sessions, used_numbers, passwords, accounts, attempts, registrations;
DROP FUNCTION vestibule_demand;
