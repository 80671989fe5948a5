//! The Gregorian calendar, as far as leap seconds need it.

/// Days before 1970 since a year that began in March and begins the calendar's cycle of 400 years: 1600.
const DAYS_BEFORE_1970: u64 = 135_080;
/// Days of 400 years, of 100 and of 4, as far as no leap day is left out.
const CYCLE: [u64; 3] = [146_097, 36_524, 1_461];
/// Days of a year from March before each of its months.
const MONTHS: [u64; 12] = [0, 31, 61, 92, 122, 153, 184, 214, 245, 275, 306, 337];

/// Whether so many days after 1970-01-01 a month begins (Gregorian calendar).
#[must_use]
pub fn begins_month(days: u64) -> bool {
    let [cycle, century, four_years] = CYCLE;
    let day = (days + DAYS_BEFORE_1970) % cycle;
    // Counted from March, the leap day is the last one of a year, of four years and of 400.
    let day = day - (day / century).min(3) * century;
    let day = day % four_years;
    let day = day - (day / 365).min(3) * 365;
    MONTHS.contains(&day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_on_their_first_days() {
        // 1970-01-01, 1972-02-29 and -03-01, 2000-02-29 and -03-01, 2016-12-31, 2017-01-01, 2100-02-28 and -03-01.
        let days = [(0, true), (789, false), (790, true), (11_016, false), (11_017, true), (17_166, false)];
        let later = [(17_167, true), (47_540, false), (47_541, true)];
        for (day, begins) in days.into_iter().chain(later) {
            assert_eq!(begins_month(day), begins, "{day}");
        }
        assert_eq!((0..146_097).filter(|day| begins_month(*day)).count(), 4_800);
    }
}
