//! Everything in the simulation follows from its seed: ids by name, chance by name.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

const NAMESPACE: Uuid = Uuid::from_u128(0x7075_6c73_6f20_7369_8d75_6c61_7465_0001);

/// The id of the thing of that name in the chain of that seed.
pub fn id(seed: u64, name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::new_v5(&NAMESPACE, &seed.to_be_bytes()), name.as_bytes())
}

/// A stream of chance of its own for each name, so that one part of the simulation never shifts another.
pub fn rng(seed: u64, name: &str) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..16].copy_from_slice(id(seed, name).as_bytes());
    key[16..24].copy_from_slice(&seed.to_be_bytes());
    ChaCha8Rng::from_seed(key)
}
