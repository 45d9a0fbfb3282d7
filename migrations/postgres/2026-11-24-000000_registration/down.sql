DROP TABLE messages, limits, refresh_tokens, sessions, used_numbers, passwords, accounts, attempts, registrations;
DROP DOMAIN positive_number, whole_number, digest, phone_number, registration_stage, password_hash, email_address, profile_text, zip_code,
  country_code, currency_code, kyc_level;
DROP FUNCTION vestibule_demand;
