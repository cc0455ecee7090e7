//! What every figure's answer can do: be asked for in part (`fields=`), and be compared with what the caller has (ETag).

use super::problem::{FieldError, Problem};
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;

/// An answer is some hundred kilobytes at most; this only bounds a mistake.
const MAX_ANSWER: usize = 32 * 1024 * 1024;
const MAX_FIELDS: usize = 100;
/// What an answer in part is: its schema is not the whole's.
pub const PARTIAL: &str = "application/vnd.pulso.partial+json";

/// As a layer of its own.
pub async fn manners(request: Request, next: Next) -> Response {
    mannerly(request, |request| next.run(request)).await
}

/// Around each route of figures.
pub async fn mannerly<F>(mut request: Request, answer: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let fields = match take_fields(&mut request) {
        Ok(fields) => fields,
        Err(problem) => return problem.into_response(),
    };
    let conditions = request.headers().get(header::IF_NONE_MATCH).cloned();
    let response = answer(request).await;
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if response.status() != StatusCode::OK || !is_json {
        return response;
    }
    let (mut head, mut body) = response.into_parts();
    // A kept answer brings the tag of its whole along.
    let known = head.headers.remove(header::ETAG).filter(|_| fields.is_none());
    let tag = match known {
        Some(tag) => tag,
        None => {
            let Ok(mut bytes) = to_bytes(body, MAX_ANSWER).await else {
                return Problem::internal("an answer is beyond its bound").into_response();
            };
            if let Some(fields) = fields {
                match select(&bytes, &fields) {
                    Ok(part) => bytes = part.into(),
                    Err(problem) => return problem.into_response(),
                }
                head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PARTIAL));
            }
            head.headers.remove(header::CONTENT_LENGTH);
            let tag = tag(&bytes);
            body = Body::from(bytes);
            tag
        }
    };
    // A caller's own cache may keep it, and has to ask each time whether it still holds.
    head.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    head.headers.append(header::VARY, HeaderValue::from_static("authorization"));
    let matches = conditions.as_ref().is_some_and(|value| names(value, &tag));
    head.headers.insert(header::ETAG, tag);
    if matches {
        head.status = StatusCode::NOT_MODIFIED;
        head.headers.remove(header::CONTENT_TYPE);
        return Response::from_parts(head, Body::empty());
    }
    Response::from_parts(head, body)
}

/// Weak: the same figures may be sent compressed or not.
pub fn tag(body: &[u8]) -> HeaderValue {
    let mut tag = String::from("W/\"");
    for byte in Sha256::digest(body).iter().take(16) {
        // Writing into a String cannot fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    // Of letters and digits alone, so it is one.
    HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static(""))
}

fn names(condition: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(text), Ok(tag)) = (condition.to_str(), tag.to_str()) else { return false };
    let strong = tag.trim_start_matches("W/");
    text.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == strong)
}

/// A tree of names: an empty one stands for the whole.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fields(BTreeMap<String, Fields>);

/// Takes `fields` out of the query, so that the routes need not know it.
fn take_fields(request: &mut Request) -> Result<Option<Fields>, Problem> {
    let Some(query) = request.uri().query() else { return Ok(None) };
    let (ours, rest): (Vec<&str>, Vec<&str>) =
        query.split('&').partition(|pair| pair.split('=').next() == Some("fields"));
    let refuse = |detail: &str| Err(Problem::invalid(vec![FieldError::new("fields", detail)]));
    let value = match ours.as_slice() {
        [] => return Ok(None),
        [one] => one.split_once('=').map(|(_, value)| value).unwrap_or_default(),
        _ => return refuse("is given more than once"),
    };
    let value = value.replace("%2C", ",").replace("%2c", ",");
    let fit = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let mut fields = Fields::default();
    let paths: Vec<&str> = value.split(',').collect();
    if paths.len() > MAX_FIELDS || !paths.iter().all(|path| path.split('.').all(fit) && path.split('.').count() <= 4) {
        return refuse("must be names of the answer's members, as net_usd,hourly.hour");
    }
    for path in paths {
        let mut node = &mut fields;
        for name in path.split('.') {
            node = node.0.entry(name.to_owned()).or_default();
        }
    }
    let path = request.uri().path();
    let target = if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) };
    let mut parts = request.uri().clone().into_parts();
    // It was part of a good target before.
    parts.path_and_query = target.parse::<PathAndQuery>().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    Ok(Some(fields))
}

fn select(body: &[u8], fields: &Fields) -> Result<Vec<u8>, Problem> {
    let whole: Value = serde_json::from_slice(body).map_err(|error| Problem::internal(error.to_string()))?;
    let part =
        part_of(&whole, fields, "").map_err(|detail| Problem::invalid(vec![FieldError::new("fields", detail)]))?;
    serde_json::to_vec(&part).map_err(|error| Problem::internal(error.to_string()))
}

fn part_of(value: &Value, fields: &Fields, at: &str) -> Result<Value, String> {
    if fields.0.is_empty() {
        return Ok(value.clone());
    }
    match value {
        Value::Object(members) => {
            let mut part = serde_json::Map::new();
            for (name, below) in &fields.0 {
                let full = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                let Some(member) = members.get(name) else {
                    let known: Vec<_> = members.keys().map(String::as_str).collect();
                    return Err(format!("the answer has no member {full}; here it has {}", known.join(", ")));
                };
                part.insert(name.clone(), part_of(member, below, &full)?);
            }
            Ok(Value::Object(part))
        }
        Value::Array(items) => items.iter().map(|item| part_of(item, fields, at)).collect(),
        Value::Null => Ok(Value::Null),
        _ => Err(format!("{at} has no members")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(target: &str) -> Result<(Option<Fields>, String), Problem> {
        let mut request = Request::get(target).body(Body::empty()).expect("a request");
        take_fields(&mut request).map(|fields| (fields, request.uri().to_string()))
    }

    #[test]
    fn fields_are_taken_out_of_the_query() {
        let (fields, rest) = asked("/v1/x?date=2026-01-01&fields=a,b.c&z=1").expect("fields");
        assert_eq!(rest, "/v1/x?date=2026-01-01&z=1");
        let whole = json!({"a": 1, "b": [{"c": 2, "d": 3}], "e": 4});
        let part = part_of(&whole, &fields.expect("fields"), "").expect("a part");
        assert_eq!(part, json!({"a": 1, "b": [{"c": 2}]}));
        assert_eq!(asked("/v1/x?fields=a").map(|(_, rest)| rest).ok().as_deref(), Some("/v1/x"));
        assert!(asked("/v1/x?field=a").expect("no fields").0.is_none());
        for bad in
            ["fields=", "fields", "fields=a&fields=b", "fields=a,,b", "fields=a.b.c.d.e", "fields=%00", "fields=a%20b"]
        {
            assert!(asked(&format!("/v1/x?{bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn members_that_are_not_there_are_named() {
        let whole = json!({"a": {"b": 1}});
        let of =
            |query: &str| part_of(&whole, &asked(&format!("/?fields={query}")).expect("fields").0.expect("fields"), "");
        assert!(of("a.x").expect_err("no such member").contains("a.x"));
        assert!(of("a.b.c").expect_err("no members").contains("a.b"));
    }

    #[test]
    fn tags_are_compared_weakly() {
        let tag = tag(b"x");
        let text = tag.to_str().expect("text");
        for (condition, same) in [
            (text.to_owned(), true),
            ("*".into(), true),
            (text.replace("W/", ""), true),
            (format!("\"a\", {text}"), true),
            ("\"a\"".into(), false),
            (String::new(), false),
        ] {
            assert_eq!(names(&HeaderValue::from_str(&condition).expect("a header"), &tag), same, "{condition}");
        }
    }
}
