//! Names and identity numbers of people.

use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

const GIVEN: &[&str] = &[
    "María",
    "José",
    "Carmen",
    "Luis",
    "Ana",
    "Carlos",
    "Yusmary",
    "Jesús",
    "Rosa",
    "Pedro",
    "Gabriela",
    "Miguel",
    "Andreína",
    "Rafael",
    "Milagros",
    "Antonio",
    "Daniela",
    "Francisco",
    "Yolanda",
    "Alejandro",
    "Mariana",
    "Ramón",
    "Patricia",
    "Wilmer",
    "Elena",
    "Gustavo",
    "Luisa",
    "Héctor",
    "Beatriz",
    "Ángel",
    "Oriana",
    "Eduardo",
];

const FAMILY: &[&str] = &[
    "González",
    "Rodríguez",
    "Pérez",
    "Hernández",
    "García",
    "Martínez",
    "López",
    "Díaz",
    "Rojas",
    "Ramírez",
    "Torres",
    "Contreras",
    "Márquez",
    "Moreno",
    "Fernández",
    "Blanco",
    "Suárez",
    "Medina",
    "Rivas",
    "Salazar",
    "Mendoza",
    "Urdaneta",
    "Guerrero",
    "Colmenares",
    "Bracho",
    "Zambrano",
    "Paredes",
    "Villalobos",
    "Chirinos",
    "Figueroa",
];

const TRADES: &[&str] = &[
    "Inversiones",
    "Distribuidora",
    "Comercial",
    "Servicios",
    "Constructora",
    "Suministros",
    "Transporte",
    "Panadería",
];

const FIRMS: &[&str] = &[
    "El Ávila",
    "Los Andes",
    "La Esperanza",
    "Orinoco",
    "San Rafael",
    "Los Próceres",
    "Cumbres",
    "El Samán",
    "Coquivacoa",
];

fn one<'a>(rng: &mut impl Rng, from: &[&'a str]) -> &'a str {
    from.choose(rng).copied().unwrap_or_default()
}

pub fn cashier(rng: &mut impl Rng) -> String {
    format!("{} {}", one(rng, GIVEN), one(rng, FAMILY))
}

/// A buyer's name and identity number: a person with a cédula, or one in twelve a company with a RIF.
/// Different `serial`s have different numbers.
pub fn buyer(rng: &mut impl Rng, serial: u32) -> (String, String) {
    // A bijection below ten million, so that the numbers look scattered and never meet.
    let scattered = (u64::from(serial) * 7_654_321 + 1_234_567) % 10_000_000;
    if rng.random_ratio(1, 12) {
        let name = format!("{} {}, C.A.", one(rng, TRADES), one(rng, FIRMS));
        return (name, format!("J-{}-{}", 40_000_000 + scattered, rng.random_range(0..10)));
    }
    let name = format!("{} {} {}", one(rng, GIVEN), one(rng, FAMILY), one(rng, FAMILY));
    (name, format!("V-{}", 10_000_000 + scattered))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::collections::HashSet;

    #[test]
    fn identity_numbers_never_meet() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let numbers: HashSet<String> = (0..50_000).map(|serial| buyer(&mut rng, serial).1).collect();
        assert_eq!(numbers.len(), 50_000);
    }
}
