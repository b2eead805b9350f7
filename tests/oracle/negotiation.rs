//! `Accept`, `Accept-Encoding` and `Range` as RFC 9110 describes them, one step after the other: text is split into
//! parts, parts become weights or positions, and the best is searched for. It shares no code with the server.

/// What a client prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preferred {
    Text,
    /// Text, but problem details for an error.
    Problem,
    Json,
}

/// What a range selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selected {
    Whole,
    /// The first and the last position.
    Part(usize, usize),
    Nothing,
}

/// An element of `Accept` that may match what the server has.
struct MediaRange {
    name: String,
    has_charset: bool,
    weight: f64,
}

/// Evaluates all `Accept` fields of a request.
pub(crate) fn accept(fields: &[&[u8]]) -> Preferred {
    let ranges: Vec<MediaRange> =
        fields.iter().flat_map(|field| split(field, ',')).filter_map(|text| media(&text)).collect();
    let text = weight_of("text/plain", &ranges);
    if weight_of("application/json", &ranges) > text {
        Preferred::Json
    } else if weight_of("application/problem+json", &ranges) > text {
        Preferred::Problem
    } else {
        Preferred::Text
    }
}

/// The weight of a media type: that of the most specific range, and of several the greatest (RFC 9110 section 12.5.1).
fn weight_of(media_type: &str, ranges: &[MediaRange]) -> f64 {
    let kind = media_type.split('/').next().unwrap_or_default();
    for name in [media_type, &format!("{kind}/*"), "*/*"] {
        for has_charset in [true, false] {
            let same = ranges
                .iter()
                .filter(|range| range.name == name && range.has_charset == has_charset);
            if let Some(best) = same.map(|range| range.weight).reduce(f64::max) {
                return best;
            }
        }
    }
    0.0
}

fn media(element: &str) -> Option<MediaRange> {
    let parts = split(element.as_bytes(), ';');
    let mut range = MediaRange {
        name: trim(parts.first()?).to_ascii_lowercase(),
        has_charset: false,
        weight: 1.0,
    };
    for part in parts[1..].iter().map(|part| trim(part)).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=')?;
        match (trim(name).to_ascii_lowercase().as_str(), unquoted(trim(value))) {
            ("q", value) => {
                range.weight = weight(value)?;
                break; // what follows is an extension
            }
            ("charset", value) if value.eq_ignore_ascii_case("utf-8") => range.has_charset = true,
            _ => return None,
        }
    }
    Some(range)
}

/// Evaluates all `Accept-Encoding` fields of a request: whether gzip is acceptable, and no less so than identity.
pub(crate) fn accepts_gzip(fields: &[&[u8]]) -> bool {
    let text = fields.iter().map(|field| latin(field)).collect::<Vec<_>>().join(",");
    let listed: Vec<(String, f64)> = text.split(',').filter_map(coding).collect();
    let weight_of = |names: &[&str]| {
        let same = listed.iter().filter(|(name, _)| names.contains(&name.as_str()));
        same.map(|(_, weight)| *weight).reduce(f64::max)
    };
    let or_any = |weight: Option<f64>| weight.or_else(|| weight_of(&["*"])).unwrap_or(0.0);
    let gzip = or_any(weight_of(&["gzip", "x-gzip"]));
    gzip > 0.0 && gzip >= or_any(weight_of(&["identity"]))
}

fn coding(element: &str) -> Option<(String, f64)> {
    let mut parts = element.split(';').map(trim);
    let name = parts.next()?.to_ascii_lowercase();
    let Some(parameter) = parts.next() else { return Some((name, 1.0)) };
    let (q, value) = parameter.split_once('=')?;
    if !trim(q).eq_ignore_ascii_case("q") {
        return None;
    }
    Some((name, weight(unquoted(trim(value)))?))
}

/// Evaluates the value of a `Range` field for a representation of this length, by trying each of its positions.
pub(crate) fn range(value: &[u8], length: usize) -> Selected {
    positions(trim(&latin(value)), length).unwrap_or(Selected::Whole)
}

fn positions(value: &str, length: usize) -> Option<Selected> {
    let (unit, set) = value.split_once('=')?;
    let ranges: Vec<&str> = set.split(',').map(trim).filter(|range| !range.is_empty()).collect();
    let [range] = ranges[..] else { return None };
    let (first, last) = range.split_once('-')?;
    let is_number = |text: &str| text.chars().all(|letter| letter.is_ascii_digit());
    if !unit.eq_ignore_ascii_case("bytes") || !is_number(first) || !is_number(last) {
        return None;
    }
    // Greater numbers are all beyond the end.
    let number = |text: &str| text.parse().unwrap_or(u64::MAX);
    let is_selected: Box<dyn Fn(usize) -> bool> = match (first, last) {
        ("", "") => return None,
        ("", suffix) => {
            let suffix = number(suffix);
            Box::new(move |at| (length - at) as u64 <= suffix)
        }
        (first, "") => Box::new(move |at| at as u64 >= number(first)),
        (first, last) if number(last) < number(first) => return None,
        (first, last) => {
            let bounds = number(first)..=number(last);
            Box::new(move |at| bounds.contains(&(at as u64)))
        }
    };
    let selected: Vec<usize> = (0..length).filter(|at| is_selected(*at)).collect();
    Some(match (selected.first(), selected.last()) {
        (Some(first), Some(last)) => Selected::Part(*first, *last),
        _ => Selected::Nothing,
    })
}

/// Splits at separators outside of quoted strings.
fn split(field: &[u8], separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut is_quoted = false;
    let text = latin(field);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter == separator && !is_quoted {
            parts.push(String::new());
            continue;
        }
        let part = parts.last_mut().expect("there is always one");
        part.push(letter);
        match letter {
            '"' => is_quoted = !is_quoted,
            '\\' if is_quoted => part.extend(letters.next()), // whatever it is
            _ => {}
        }
    }
    parts
}

/// Removes optional whitespace (RFC 9110 section 5.6.3).
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn unquoted(value: &str) -> &str {
    let is_quoted = value.len() >= 2 && value.starts_with('"') && value.ends_with('"');
    if is_quoted { &value[1..value.len() - 1] } else { value }
}

/// A weight as in `0`, `0.5` or `1.000`.
fn weight(text: &str) -> Option<f64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.chars().all(|letter| letter.is_ascii_digit());
    let is_weight =
        whole.len() == 1 && decimals.len() <= 3 && is_number(whole) && is_number(decimals);
    let value = is_weight.then(|| format!("{whole}.{decimals}0").parse().expect("a number"));
    value.filter(|value| (0.0..=1.0).contains(value))
}

/// Every byte as the character of its number, so that no text is invalid.
fn latin(text: &[u8]) -> String {
    text.iter().map(|byte| char::from(*byte)).collect()
}
