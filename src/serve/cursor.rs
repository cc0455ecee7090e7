//! Where a list goes on: the sort key of the last item, opaque to callers, so that pages stay right while rows come and go.
//!
//! A cursor bears a version, its list's name and a checksum. One that is cut short, altered by hand or of another list is
//! the caller's fault and is said to be. It is no secret and needs no signature: a list shows each caller its own shops only.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

const VERSION: u8 = 1;
const CHECKSUM: usize = 6;
/// Names of shops are bounded by nobody else.
pub const MAX: usize = 4096;

pub fn encode<T: serde::Serialize>(list: &str, key: &T) -> Option<String> {
    let key = serde_json::to_vec(&(VERSION, list, key)).ok()?;
    let mut bytes = Sha256::digest(&key)[..CHECKSUM].to_vec();
    bytes.extend(key);
    Some(URL_SAFE_NO_PAD.encode(bytes)).filter(|text| text.len() <= MAX)
}

pub fn decode<T: serde::de::DeserializeOwned>(list: &'static str) -> impl FnOnce(&str) -> Result<T, String> {
    move |text| {
        let bytes = Some(text).filter(|text| text.len() <= MAX).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let whole = bytes.as_deref().and_then(|bytes| bytes.split_at_checked(CHECKSUM));
        let key = whole.filter(|(sum, key)| Sha256::digest(key)[..CHECKSUM] == **sum).map(|(_, key)| key);
        let read = key.and_then(|key| serde_json::from_slice::<(u8, String, T)>(key).ok());
        match read {
            Some((VERSION, of, key)) if of == list => Ok(key),
            _ => Err(format!("must be the `next` of a page of {list}; without it the list begins anew")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_and_nothing_else_is_one() {
        let key = ("Abasto ñandú \u{1f600}".to_owned(), 7);
        let cursor = encode("stores", &key).expect("a cursor");
        assert_eq!(decode::<(String, i32)>("stores")(&cursor), Ok(key));
        assert!(decode::<(String, i32)>("products")(&cursor).is_err(), "of another list");
        assert!(decode::<(i32, i32)>("stores")(&cursor).is_err(), "of another form");
        for end in 0..cursor.len() {
            assert!(decode::<(String, i32)>("stores")(&cursor[..end]).is_err(), "cut at {end}");
        }
        for at in 0..cursor.len() {
            let mut altered = cursor.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).expect("text");
            assert!(altered == cursor || decode::<(String, i32)>("stores")(&altered).is_err(), "altered at {at}");
        }
        assert_eq!(encode("stores", &"x".repeat(MAX)), None);
    }
}
