//! The function `strftime_now`: some templates tell the model the date.

use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Now, in UTC: a node has no user whose time zone it could know.
pub(super) fn strftime_now(format: &str) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    strftime(format, now.as_secs())
}

/// Python's directives for dates and times, as far as templates use them; others stay as written.
fn strftime(format: &str, seconds: u64) -> String {
    let time = Civil::from_unix(seconds);
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let mut directive = rest.next();
        let unpadded = directive == Some('-');
        if unpadded {
            directive = rest.next();
        }
        let number = |n: u64| {
            if unpadded {
                n.to_string()
            } else {
                format!("{n:02}")
            }
        };
        text.push_str(&match directive {
            Some('d') => number(time.day),
            Some('m') => number(time.month),
            Some('Y') => time.year.to_string(),
            Some('y') => number(time.year % 100),
            Some('H') => number(time.hour),
            Some('I') => number((time.hour + 11) % 12 + 1),
            Some('M') => number(time.minute),
            Some('S') => number(time.second),
            Some('p') => if time.hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('A') => time.weekday_name().to_owned(),
            Some('a') => time.weekday_name().chars().take(3).collect(),
            Some('B') => time.month_name().to_owned(),
            Some('b' | 'h') => time.month_name().chars().take(3).collect(),
            Some('F') => format!("{}-{:02}-{:02}", time.year, time.month, time.day),
            Some('T') => format!("{:02}:{:02}:{:02}", time.hour, time.minute, time.second),
            Some('Z') => "UTC".to_owned(),
            Some('z') => "+0000".to_owned(),
            Some('%') => "%".to_owned(),
            Some(other) => format!("%{other}"),
            None => "%".to_owned(),
        });
    }
    text
}

struct Civil {
    year: u64,
    month: u64,
    day: u64,
    weekday: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Civil {
    /// Howard Hinnant's `civil_from_days`, for days from 1970 on: years begin in March, so that the
    /// leap day is the last one, and 400 years always have the same number of days.
    fn from_unix(seconds: u64) -> Self {
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let since_0000_03 = days + 719_468;
        let (era, day_of_era) = (since_0000_03 / 146_097, since_0000_03 % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        Self {
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            // 1970 began on a Thursday.
            weekday: (days + 4) % 7,
            hour: second / 3_600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }

    fn weekday_name(&self) -> &'static str {
        DAYS.get(self.weekday as usize).copied().unwrap_or_default()
    }

    fn month_name(&self) -> &'static str {
        MONTHS
            .get(self.month as usize - 1)
            .copied()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::strftime;

    #[test]
    fn dates_that_python_gives() {
        let all = "%d %b %Y|%A %a|%B %m|%H:%M:%S|%I %p|%y|%-d/%-m|%F %T|%%|%Q|%";
        for (seconds, expected) in [
            (
                0,
                "01 Jan 1970|Thursday Thu|January 01|00:00:00|12 AM|70|1/1|1970-01-01 00:00:00|%|%Q|%",
            ),
            (
                951_827_696,
                "29 Feb 2000|Tuesday Tue|February 02|12:34:56|12 PM|00|29/2|2000-02-29 12:34:56|%|%Q|%",
            ),
            (
                1_795_391_999,
                "22 Nov 2026|Sunday Sun|November 11|23:59:59|11 PM|26|22/11|2026-11-22 23:59:59|%|%Q|%",
            ),
            (
                4_107_542_400,
                "01 Mar 2100|Monday Mon|March 03|00:00:00|12 AM|00|1/3|2100-03-01 00:00:00|%|%Q|%",
            ),
        ] {
            assert_eq!(strftime(all, seconds), expected);
        }
    }
}
