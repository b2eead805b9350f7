//! The trace id of a `traceparent` header field (W3C Trace Context, section 3.2.2).

/// Length of version, trace id, parent id and flags with their delimiters.
const LENGTH: usize = 55;

/// Returns the trace id, 32 hexadecimal digits, of a valid field value.
pub(super) fn trace_id(value: &[u8]) -> Option<&[u8]> {
    let known = value.get(..LENGTH)?;
    let mut parts = known.split(|byte| *byte == b'-');
    let [version, trace_id, parent_id, flags] = [(); 4].map(|()| parts.next().unwrap_or_default());
    let is_hex = |part: &[u8], length: usize| {
        part.len() == length && part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id = |part: &[u8], length| is_hex(part, length) && part.iter().any(|byte| *byte != b'0');
    // Later versions may append more; ff is invalid.
    let is_ended = match value.get(LENGTH) {
        None => true,
        Some(next) => version != b"00" && *next == b'-',
    };
    let is_valid = is_hex(version, 2)
        && version != b"ff"
        && is_id(trace_id, 32)
        && is_id(parent_id, 16)
        && is_hex(flags, 2)
        && is_ended;
    is_valid.then_some(trace_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn check(value: &str, expected: Option<&str>) {
        assert_eq!(trace_id(value.as_bytes()), expected.map(str::as_bytes), "{value}");
    }

    #[test]
    fn a_valid_value_has_a_trace_id() {
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some(TRACE_ID));
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", Some(TRACE_ID));
        check("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some(TRACE_ID));
        check("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what", Some(TRACE_ID));
    }

    #[test]
    fn an_invalid_value_has_none() {
        for value in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47-36-0f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00.4bf92f3577b34da6a3ce929d0e0e4736.00f067aa0ba902b7.01",
        ] {
            check(value, None);
        }
    }
}
