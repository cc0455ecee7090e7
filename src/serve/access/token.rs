//! Tokens (JWT): signed by an issuer that the operator trusts. Each key is bound to its algorithm, so a token cannot choose.

use super::{Principal, Scope};
use crate::error::{Error, Result};
use crate::key::Role;
use jsonwebtoken::jwk::{AlgorithmParameters, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Clocks of issuer and service may differ by so much.
const LEEWAY_SECONDS: u64 = 30;
const MIN_SECRET: usize = 32;
/// Callers are remembered by their names.
const MAX_SUBJECT: usize = 256;

#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Tokens (JWT)")]
pub struct TokenArgs {
    /// File with the secret of an issuer that signs with HS256, 32 bytes at least
    #[arg(long, env = "PULSO_JWT_SECRET_FILE", value_name = "FILE")]
    jwt_secret_file: Option<PathBuf>,

    /// File with the public key (PEM) of an issuer that signs with RS256
    #[arg(long, env = "PULSO_JWT_PUBLIC_KEY", value_name = "FILE")]
    jwt_public_key: Option<PathBuf>,

    /// File with the issuer's key set (JWKS); its RSA keys are used, for RS256
    #[arg(long, env = "PULSO_JWKS", value_name = "FILE")]
    jwks: Option<PathBuf>,

    /// Take only tokens of this issuer (claim iss)
    #[arg(long, env = "PULSO_JWT_ISSUER", value_name = "NAME")]
    jwt_issuer: Option<String>,

    /// Take only tokens for this audience (claim aud)
    #[arg(long, env = "PULSO_JWT_AUDIENCE", value_name = "NAME")]
    jwt_audience: Option<String>,
}

#[derive(Clone)]
struct Trusted {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// The issuers' keys.
#[derive(Clone, Default)]
pub struct Tokens {
    keys: Vec<Trusted>,
    issuer: Option<String>,
    audience: Option<String>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.keys.len())
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    role: Role,
    stores: Stores,
}

/// `"*"`, or a list of shops.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stores {
    Some(BTreeSet<Uuid>),
    All(Star),
}

#[derive(Deserialize)]
enum Star {
    #[serde(rename = "*")]
    Star,
}

impl Tokens {
    pub fn load(args: &TokenArgs) -> Result<Self> {
        let mut keys = Vec::new();
        if let Some(path) = &args.jwt_secret_file {
            let text = read(path)?;
            let secret = text.trim_ascii();
            if secret.len() < MIN_SECRET {
                return Err(Error::usage(format!(
                    "{}: the secret has {} bytes, and needs {MIN_SECRET}",
                    path.display(),
                    secret.len()
                ))
                .with_hint("Make one with: openssl rand -hex 32"));
            }
            keys.push(Trusted { id: None, algorithm: Algorithm::HS256, key: DecodingKey::from_secret(secret) });
        }
        if let Some(path) = &args.jwt_public_key {
            let key = DecodingKey::from_rsa_pem(&read(path)?)
                .map_err(|error| unreadable(path, &error, "an RSA public key in PEM form"))?;
            keys.push(Trusted { id: None, algorithm: Algorithm::RS256, key });
        }
        if let Some(path) = &args.jwks {
            keys.extend(key_set(path)?);
        }
        Ok(Self { keys, issuer: args.jwt_issuer.clone(), audience: args.jwt_audience.clone() })
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Who the token says it is, or why it is not believed.
    pub fn verify(&self, token: &str) -> Result<Principal, &'static str> {
        const REFUSED: &str = "The token is malformed, expired, or not signed by an issuer that this service trusts.";
        let head = decode_header(token).map_err(|_| REFUSED)?;
        for trusted in &self.keys {
            if trusted.algorithm != head.alg || trusted.id.is_some() && head.kid.is_some() && trusted.id != head.kid {
                continue;
            }
            if let Ok(data) = decode::<Claims>(token, &trusted.key, &self.validation(trusted.algorithm)) {
                let claims = data.claims;
                if claims.sub.is_empty() || claims.sub.len() > MAX_SUBJECT {
                    return Err(REFUSED);
                }
                let stores = match claims.stores {
                    Stores::All(Star::Star) => Scope::All,
                    Stores::Some(stores) => Scope::Only(stores),
                };
                return Ok(Principal {
                    id: Some(format!("jwt {}", claims.sub)),
                    role: claims.role,
                    stores,
                    per_minute: None,
                    tally: None,
                });
            }
        }
        Err(REFUSED)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        let mut required = vec!["exp"];
        match &self.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::usage(format!("{} cannot be read: {error}", path.display())))
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display, wanted: &str) -> Error {
    Error::usage(format!("{}: {error}", path.display())).with_hint(format!("The file has to hold {wanted}."))
}

fn key_set(path: &Path) -> Result<Vec<Trusted>> {
    let wanted = "a JSON Web Key Set with an RSA key";
    let set: JwkSet = serde_json::from_slice(&read(path)?).map_err(|error| unreadable(path, &error, wanted))?;
    let mut keys = Vec::new();
    for jwk in &set.keys {
        if matches!(jwk.algorithm, AlgorithmParameters::RSA(_)) {
            let key = DecodingKey::from_jwk(jwk).map_err(|error| unreadable(path, &error, wanted))?;
            keys.push(Trusted { id: jwk.common.key_id.clone(), algorithm: Algorithm::RS256, key });
        }
    }
    if keys.is_empty() {
        return Err(unreadable(path, &"there is no RSA key in it", wanted));
    }
    Ok(keys)
}
