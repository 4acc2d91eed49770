//! Prompts that no context holds are refused before all of them is tokens: what a tokenizer keeps
//! meanwhile is some hundred times the text, gigabytes for a few requests that are as long as may be.

use super::AskError;
use crate::speaker::Speaker;

/// Texts up to here are not looked at.
const SHORT: usize = 256 << 10;

/// So much of a text is counted at a time.
const PIECE: usize = 64 << 10;

/// Tokens that there may be fewer of in the whole text, for each piece that was cut out of it.
const CUT: usize = 64;

/// Refuses so many tokens if they are more than the model can look back on; `more` is how they are told.
pub(super) fn check(tokens: usize, more: &'static str, speaker: &Speaker) -> Result<(), AskError> {
    let context = speaker.context();
    match u32::try_from(tokens) {
        Ok(tokens) if tokens <= context => Ok(()),
        _ => Err(AskError::TooLong {
            more,
            tokens,
            context,
            model: speaker.id().to_string(),
        }),
    }
}

/// What a text has more tokens than, if that is more than the model's context.
pub(super) fn beyond(text: &str, speaker: &Speaker) -> Result<Option<usize>, AskError> {
    let most = usize::try_from(speaker.context()).unwrap_or(usize::MAX);
    if text.len() <= SHORT {
        return Ok(None);
    }
    count(text, most, |piece| {
        let tokens = speaker.encode(piece).map_err(AskError::Conversation)?;
        Ok(tokens.len())
    })
}

fn count(
    text: &str,
    most: usize,
    mut tokens: impl FnMut(&str) -> Result<usize, AskError>,
) -> Result<Option<usize>, AskError> {
    let (mut rest, mut sum) = (text, 0usize);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE));
        sum = sum.saturating_add(tokens(piece)?.saturating_sub(CUT));
        if sum > most {
            return Ok(Some(sum));
        }
        rest = after;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_counted_until_it_is_too_long_and_no_further() {
        // Two bytes each, so that a piece of an odd length would cut one.
        let text = format!("a{}", "é".repeat(5 * PIECE / 2));
        let counted = |most: usize| {
            let mut pieces = 0;
            let found = count(&text, most, |piece| {
                pieces += 1;
                assert!(piece.len() <= PIECE);
                Ok(piece.chars().count())
            });
            (found.unwrap(), pieces)
        };
        let each = PIECE / 2 - CUT;
        assert_eq!(counted(0), (Some(each), 1));
        assert_eq!(counted(each), (Some(2 * each), 2));
        assert_eq!(counted(usize::MAX), (None, 6));
    }
}
