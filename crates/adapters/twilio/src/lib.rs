//! The SMS port on Twilio's Messages resource.
