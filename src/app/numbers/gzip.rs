//! Numbers in the gzip format: coded at once or by a job, from digits that are there, and cached beside them.

use std::sync::Arc;

use super::{InFlight, Lookup, Numbers, Waiter};
use crate::{
    fibonacci::{CacheKey, CachedForm, MAX_LAST, gzip},
    http::response::Body,
    metrics::{self, Executor, Slot},
};

/// Up to the digits of this n, and so for every number that a table can have, coding takes place on the event loop: it
/// takes 13 µs at most.
pub(super) const GZIP_AT_ONCE_MAX_N: u64 = MAX_LAST as u64;

/// What is known about F(n) in the gzip format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::app) enum GzipLookup {
    /// It is cached: [`Numbers::gzipped`] returns it.
    Ready,
    /// Its digits or their coding are being computed, and the connection is noted as waiting for it.
    Pending,
    /// There is no room for it, but there are the digits.
    Unavailable,
    /// The digits cannot be computed now.
    Busy,
}

impl Numbers {
    /// Looks F(n) in the gzip format up, or has it computed for `waiter`.
    pub(in crate::app) fn get_gzip(
        &mut self,
        n: u64,
        waiter: Waiter,
        counters: &Slot,
    ) -> GzipLookup {
        if self.cache.get(CacheKey::gzip(n)).is_some() {
            if n > self.table().last() {
                counters.add(metrics::CACHE_HITS, 1);
            }
            return GzipLookup::Ready;
        }
        match self.get(n, waiter, counters) {
            Lookup::Ready(_) => self.gzip_digits(n, waiter, counters),
            Lookup::Pending => GzipLookup::Pending,
            Lookup::Busy => GzipLookup::Busy,
        }
    }

    /// Codes F(n), whose digits are in the table or in the cache, or has it coded for `waiter`.
    pub(in crate::app) fn gzip_digits(
        &mut self,
        n: u64,
        waiter: Waiter,
        counters: &Slot,
    ) -> GzipLookup {
        let key = CacheKey::gzip(n);
        if let Some(job) = self.in_flight.get_mut(&key) {
            job.waiters.insert(waiter.id);
            return GzipLookup::Pending;
        }
        if self.cache.get(key).is_some() {
            return GzipLookup::Ready;
        }
        // This clone also keeps the digits from being evicted for their coding.
        let cached = self.cache.get(CacheKey::digits(n)).cloned();
        let Some(digits) = cached.as_deref().or_else(|| self.table.numbers().get(n)) else {
            return GzipLookup::Unavailable;
        };
        let is_at_once = n <= GZIP_AT_ONCE_MAX_N;
        if !is_at_once && (cached.is_none() || self.is_full(CachedForm::Gzip))
            || !self.cache.reserve(key)
        {
            return GzipLookup::Unavailable;
        }
        if is_at_once {
            self.cache.insert(key, gzip(digits));
            counters.add(metrics::GZIP_CODINGS.with(Executor::Loop), 1);
        } else {
            self.in_flight.insert(key, InFlight::queued(key, cached, waiter));
        }
        self.update_gauges(counters);
        if is_at_once { GzipLookup::Ready } else { GzipLookup::Pending }
    }

    /// F(n) in the gzip format, if it is cached.
    pub(in crate::app) fn gzipped(&mut self, n: u64) -> Option<Body<'_>> {
        self.cache.get(CacheKey::gzip(n)).map(Self::body)
    }

    /// The digits of F(n), if they are in the table or in the cache.
    pub(in crate::app) fn digits(&mut self, n: u64) -> Option<Body<'_>> {
        match self.table.get(n) {
            Some(body) => Some(body),
            None => self.cache.get(CacheKey::digits(n)).map(Self::body),
        }
    }

    /// A cached number as the content of a response.
    pub(super) fn body(content: &Arc<[u8]>) -> Body<'_> {
        if content.len() < super::SHARED_FROM {
            Body::Bytes(content)
        } else {
            Body::Shared(content)
        }
    }
}
