//! The static files: the page, the description of the API, `robots.txt` and the icon. `build.rs` makes them.

use std::sync::Arc;

use crate::{
    app::precondition::{FailedPrecondition, failed_precondition},
    http::{
        Status,
        request::{head::Request, preferences::Preferences},
        response::{Body, ErrorField, FileFields, Response, ResponseKind},
    },
    metrics::Handler,
};

/// A static file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asset {
    /// `/`
    Page,
    /// `/openapi.json`
    OpenApi,
    /// `/robots.txt`
    Robots,
    /// `/favicon.ico`
    Favicon,
}

/// The contents of all files. They are shared: a client that does not read a response holds no copy of it.
#[derive(Debug)]
pub(super) struct Assets {
    page: Arc<[u8]>,
    open_api: Arc<[u8]>,
    robots: Arc<[u8]>,
    favicon: Arc<[u8]>,
}

const NO_MATCH: &[u8] = b"the file has no entity tag that If-Match names\n";

/// The entity tag of a file that `build.rs` has made.
macro_rules! tag {
    ($name:literal) => {
        concat!('"', env!(concat!("FIBSRV_TAG_", $name)), '"')
    };
}

/// The fields of the page. A script or style that is not the one of this build does not run.
const PAGE: FileFields = FileFields {
    media_type: "text/html; charset=utf-8",
    cache_control: "no-cache",
    etag: tag!("INDEX"),
    others: concat!(
        "Content-Security-Policy: default-src 'none'; script-src '",
        env!("FIBSRV_SCRIPT_HASH"),
        "'; style-src '",
        env!("FIBSRV_STYLE_HASH"),
        "'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'\r\n",
        "Referrer-Policy: no-referrer\r\n",
        "Cross-Origin-Opener-Policy: same-origin\r\n",
        "Cross-Origin-Resource-Policy: same-origin\r\n",
    ),
};

const OPEN_API: FileFields = FileFields {
    media_type: "application/json",
    cache_control: "no-cache",
    etag: tag!("OPENAPI"),
    others: "",
};

const ROBOTS: FileFields = FileFields {
    media_type: "text/plain; charset=utf-8",
    cache_control: "public, max-age=86400",
    etag: tag!("ROBOTS"),
    others: "",
};

const FAVICON: FileFields = FileFields {
    media_type: "image/svg+xml",
    cache_control: "public, max-age=86400",
    etag: tag!("FAVICON"),
    others: "Content-Security-Policy: default-src 'none'\r\n",
};

/// The content of a file that `build.rs` has made.
macro_rules! made {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name))
    };
}

impl Asset {
    /// Every file, in the order of the discriminants.
    pub const ALL: [Self; 4] = [Self::Page, Self::OpenApi, Self::Robots, Self::Favicon];

    /// The path of the file.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Page => "/",
            Self::OpenApi => "/openapi.json",
            Self::Robots => "/robots.txt",
            Self::Favicon => "/favicon.ico",
        }
    }

    /// Returns the file with this path. An empty path, as in `http://host`, is `/` (RFC 9110 section 4.2.3).
    pub fn at(path: &[u8]) -> Option<Self> {
        let path = if path.is_empty() { b"/" } else { path };
        Self::ALL.into_iter().find(|asset| asset.path().as_bytes() == path)
    }

    /// The `handler` label.
    pub(super) const fn label(self) -> Handler {
        match self {
            Self::Page => Handler::Page,
            Self::OpenApi => Handler::OpenApi,
            Self::Robots | Self::Favicon => Handler::File,
        }
    }

    const fn fields(self) -> &'static FileFields {
        match self {
            Self::Page => &PAGE,
            Self::OpenApi => &OPEN_API,
            Self::Robots => &ROBOTS,
            Self::Favicon => &FAVICON,
        }
    }
}

impl Assets {
    pub(super) fn new() -> Self {
        Self {
            page: Arc::from(&made!("index.html")[..]),
            open_api: Arc::from(&made!("openapi.json")[..]),
            robots: Arc::from(&made!("robots.txt")[..]),
            favicon: Arc::from(&made!("favicon.svg")[..]),
        }
    }

    /// Responds to a GET or HEAD request.
    #[cold]
    pub(super) fn handle(&self, asset: Asset, request: &Request, head: &[u8]) -> Response<'_> {
        let fields = asset.fields();
        let kind = ResponseKind::File(fields);
        let tag = fields.etag.trim_matches('"').as_bytes();
        let is_conditional = request.preferences.has(Preferences::CONDITION);
        match is_conditional.then(|| failed_precondition(head, tag)).flatten() {
            None => Response { status: Status::Ok, kind, body: Body::Shared(self.content(asset)) },
            Some(FailedPrecondition::IfMatch) => {
                Response::error(Status::PreconditionFailed, NO_MATCH, ErrorField::None)
            }
            Some(FailedPrecondition::IfNoneMatch) => {
                Response { status: Status::NotModified, kind, body: Body::Bytes(b"") }
            }
        }
    }

    const fn content(&self, asset: Asset) -> &Arc<[u8]> {
        match asset {
            Asset::Page => &self.page,
            Asset::OpenApi => &self.open_api,
            Asset::Robots => &self.robots,
            Asset::Favicon => &self.favicon,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_leads_to_its_file() {
        for asset in Asset::ALL {
            assert_eq!(Asset::at(asset.path().as_bytes()), Some(asset));
        }
        assert_eq!(Asset::at(b""), Some(Asset::Page));
        assert_eq!(Asset::at(b"/index.html"), None);
    }

    #[test]
    fn the_page_is_small() {
        let length = Assets::new().page.len();
        assert!(length <= 10 * 1024, "{length} bytes");
    }

    #[test]
    fn tags_are_distinct() {
        let tags = Asset::ALL.map(|asset| asset.fields().etag);
        for (index, tag) in tags.iter().enumerate() {
            assert!(tag.len() == 18 && !tags[..index].contains(tag), "{tag}");
        }
    }
}
