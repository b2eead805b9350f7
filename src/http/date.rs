//! Renders dates from Unix seconds: the IMF-fixdate of the `Date` field (RFC 9110 section 5.6.7), and the two formats
//! of the access log. `sys::clock` decides when.

/// Length in bytes of every IMF-fixdate.
pub const LENGTH: usize = 29;

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];
const SECONDS_PER_DAY: u64 = 86_400;

/// Renders a time as an IMF-fixdate, for years up to 9999.
///
/// ```
/// assert_eq!(&fibsrv::http::date::imf_fixdate(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
/// ```
pub fn imf_fixdate(unix_seconds: u64) -> [u8; LENGTH] {
    let days = unix_seconds / SECONDS_PER_DAY;
    let (year, month, day) = civil_from_days(days);
    let mut date = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    // 1970-01-01 was a Thursday, which is why the list of days begins there.
    put(&mut date, 0, DAYS.iter().cycle().nth((days % 7) as usize).map_or(b"", |name| *name));
    put(&mut date, 5, &two_digits(day));
    put(&mut date, 8, name_of(month));
    put_year(&mut date, 12, year);
    put_time(&mut date, 17, unix_seconds);
    date
}

/// Renders a time as in the common log format, in UTC and without the zone.
///
/// ```
/// assert_eq!(&fibsrv::http::date::common_log(784_111_777), b"06/Nov/1994:08:49:37");
/// ```
pub fn common_log(unix_seconds: u64) -> [u8; 20] {
    let (year, month, day) = civil_from_days(unix_seconds / SECONDS_PER_DAY);
    let mut date = *b"01/Jan/1970:00:00:00";
    put(&mut date, 0, &two_digits(day));
    put(&mut date, 3, name_of(month));
    put_year(&mut date, 7, year);
    put_time(&mut date, 12, unix_seconds);
    date
}

/// Renders a time as in RFC 3339, in UTC, to the second and without the zone.
///
/// ```
/// assert_eq!(&fibsrv::http::date::rfc3339(784_111_777), b"1994-11-06T08:49:37");
/// ```
pub fn rfc3339(unix_seconds: u64) -> [u8; 19] {
    let (year, month, day) = civil_from_days(unix_seconds / SECONDS_PER_DAY);
    let mut date = *b"1970-01-01T00:00:00";
    put_year(&mut date, 0, year);
    put(&mut date, 5, &two_digits(month));
    put(&mut date, 8, &two_digits(day));
    put_time(&mut date, 11, unix_seconds);
    date
}

/// Year, month (1 to 12) and day (1 to 31) of a day counted from 1970-01-01, in the proleptic Gregorian
/// calendar. Counting years from March puts the leap day last, so that month lengths follow one line
/// (the method of Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", 2013).
fn civil_from_days(days_since_1970: u64) -> (u64, u64, u64) {
    const DAYS_BEFORE_1970: u64 = 719_468; // counted from 0000-03-01
    const DAYS_PER_ERA: u64 = 146_097; // 400 years
    let days = days_since_1970 + DAYS_BEFORE_1970;
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// The last two decimal digits of `value`.
fn two_digits(value: u64) -> [u8; 2] {
    [b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8]
}

fn name_of(month: u64) -> &'static [u8; 3] {
    MONTHS.iter().zip(1..).find(|(_, number)| *number == month).map_or(b"???", |found| *found.0)
}

fn put_year(date: &mut [u8], at: usize, year: u64) {
    put(date, at, &two_digits(year / 100));
    put(date, at + 2, &two_digits(year % 100));
}

/// Writes the time of day, eight bytes.
fn put_time(date: &mut [u8], at: usize, unix_seconds: u64) {
    let second = unix_seconds % SECONDS_PER_DAY;
    put(date, at, &two_digits(second / 3600));
    put(date, at + 3, &two_digits(second / 60 % 60));
    put(date, at + 6, &two_digits(second % 60));
}

fn put(date: &mut [u8], at: usize, text: &[u8]) {
    for (to, from) in date.iter_mut().skip(at).zip(text) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(unix_seconds: u64, expected: &str) {
        assert_eq!(std::str::from_utf8(&imf_fixdate(unix_seconds)).unwrap(), expected);
        // "Sun, 06 Nov 1994 08:49:37 GMT"
        let (day, month, year, time) =
            (&expected[5..7], &expected[8..11], &expected[12..16], &expected[17..25]);
        let logged = common_log(unix_seconds);
        assert_eq!(str::from_utf8(&logged).unwrap(), format!("{day}/{month}/{year}:{time}"));
        let number = MONTHS.iter().position(|name| *name == month.as_bytes()).unwrap() + 1;
        let rfc3339 = rfc3339(unix_seconds);
        let expected = format!("{year}-{number:02}-{day}T{time}");
        assert_eq!(str::from_utf8(&rfc3339).unwrap(), expected);
    }

    #[test]
    fn known_dates() {
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
        check(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"); // the RFC's own example
        check(951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT");
        check(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"); // a leap century
        check(1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT");
        check(1_709_251_200, "Fri, 01 Mar 2024 00:00:00 GMT");
        check(4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT");
        check(4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"); // no leap century
        check(253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut previous = civil_from_days(0);
        for days in 1..200_000 {
            let (year, month, day) = civil_from_days(days);
            let next_day = (year, month, day) == (previous.0, previous.1, previous.2 + 1);
            let next_month = (year, month, day) == (previous.0, previous.1 + 1, 1);
            let next_year = (year, month, day) == (previous.0 + 1, 1, 1);
            assert!(next_day || next_month || next_year, "{previous:?} then {year}-{month}-{day}");
            previous = (year, month, day);
        }
    }
}
