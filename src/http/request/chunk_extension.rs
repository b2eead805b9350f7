//! The grammar of chunk extensions, which are ignored (RFC 9112 section 7.1.1).
//!
//! They must still be read exactly: a recipient that takes the line end in `1;a="` for one within a quoted string sees
//! the next request elsewhere than one that does not.

use super::lines::{is_text, is_token};

/// A position in `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`, between the size of a chunk and the
/// end of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    /// After the chunk size or a quoted string.
    Complete,
    /// White space, which only a semicolon may end.
    Space,
    /// After the semicolon.
    NameStart,
    /// Within a name.
    Name,
    /// White space after a name.
    NameSpace,
    /// After the equals sign.
    ValueStart,
    /// Within a token as the value.
    Token,
    /// Within a quoted string (RFC 9110 section 5.6.4).
    Quoted,
    /// After a backslash in a quoted string.
    Escaped,
}

impl Extension {
    /// Returns the position after `byte`, or `None` if the byte is not allowed.
    pub(super) const fn after(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Quoted, b'"') => Self::Complete,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Quoted | Self::Escaped, _) if is_text(byte) => Self::Quoted,
            (Self::NameStart | Self::ValueStart, b' ' | b'\t') => self,
            (Self::NameStart | Self::Name, _) if is_token(byte) => Self::Name,
            (Self::Name | Self::NameSpace, b' ' | b'\t') => Self::NameSpace,
            (Self::Name | Self::NameSpace, b'=') => Self::ValueStart,
            (Self::ValueStart, b'"') => Self::Quoted,
            (Self::ValueStart | Self::Token, _) if is_token(byte) => Self::Token,
            (Self::Complete | Self::Space | Self::Token, b' ' | b'\t') => Self::Space,
            (Self::Complete | Self::Space | Self::Name | Self::NameSpace | Self::Token, b';') => {
                Self::NameStart
            }
            _ => return None,
        })
    }

    /// Whether the line may end here.
    pub(super) const fn may_end(self) -> bool {
        matches!(self, Self::Complete | Self::Name | Self::Token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_valid(text: &str) -> bool {
        text.bytes().try_fold(Extension::Complete, Extension::after).is_some_and(Extension::may_end)
    }

    #[test]
    fn extensions_are_names_with_optional_values() {
        for text in [
            "",
            ";a",
            ";a;b",
            ";a=b",
            ";a=b;c=d",
            " \t;\t a \t=\t b ;c",
            ";a=\"\"",
            ";a=\"b\";c",
            ";a=\"b\" ;c",
            ";a=\"; =\\\"\\\\\t\u{e9}\"",
        ] {
            assert!(is_valid(text), "{text:?}");
        }
    }

    #[test]
    fn everything_else_is_invalid() {
        for text in [
            " ",
            ";",
            ";;a",
            "; ;a",
            ";=b",
            ";a=",
            ";a=;b",
            ";a ",
            ";a b",
            ";a=b c",
            ";a=b ",
            ";a==b",
            ";a=b=c",
            ";a,b",
            ";\"a\"",
            ";a=\"",
            ";a=\"b",
            ";a=\"b\\\"",
            ";a=\"b\"c",
            ";a=\"b\" ",
            ";a=b\"c\"",
            ";a=\"\0\"",
            ";a=\"\\\u{7f}\"",
            ";a=\u{e9}",
            "a",
        ] {
            assert!(!is_valid(text), "{text:?}");
        }
    }
}
