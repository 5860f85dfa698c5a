//! Signatures, by which a receiver knows that a request is from this sensor, and is not an old one again.
//!
//! Source: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac;

use crate::secret::Secret;

/// Signs with one key.
pub struct Signer(hmac::Key);

impl Signer {
    /// `whsec_` and the key in base64, or the key as text.
    ///
    /// # Errors
    /// What follows `whsec_` is not base64.
    pub fn new(secret: &Secret) -> Result<Self> {
        let text = secret.expose();
        let key = match text.strip_prefix("whsec_") {
            None => text.as_bytes().to_vec(),
            Some(encoded) => {
                STANDARD.decode(encoded).ok().context("the secret begins with whsec_, and is not base64 after it")?
            }
        };
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// The headers of a request that is sent `at` so many seconds after the epoch.
    pub fn headers(&self, id: &str, at: u64, body: &str) -> HeaderMap {
        let signature = format!("v1,{}", STANDARD.encode(hmac::sign(&self.0, format!("{id}.{at}.{body}").as_bytes())));
        let headers = [("webhook-id", id), ("webhook-timestamp", &at.to_string()), ("webhook-signature", &signature)];
        let parsed = headers
            .into_iter()
            .filter_map(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?)));
        parsed.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(secret: &str) -> Result<Signer> {
        Signer::new(&Secret::try_from(secret.to_owned()).unwrap())
    }

    /// The example of the specification's libraries.
    #[test]
    fn signature_is_that_of_the_standard() {
        let signer = signer("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let headers = signer.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(headers["webhook-id"], "msg_p5jXN8AQM9LWM0D4loKWxJek");
        assert_eq!(headers["webhook-timestamp"], "1614265330");
        assert_eq!(headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secret_may_be_text_but_not_half_base64() {
        assert!(signer("hunter2").is_ok());
        let error = signer("whsec_hunter2!").err().unwrap().to_string();
        assert!(error.contains("base64") && !error.contains("hunter2"), "{error}");
    }
}
