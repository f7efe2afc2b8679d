//! A partner for everybody, or for nobody.

/// Gives each of `wants` a different one of `offers` that `fits`, preferring the first ones; `None` when that cannot
/// be done. (Augmenting paths: a want that is served steps aside for another if it can be served differently.)
pub(super) fn match_all(
    wants: usize,
    offers: usize,
    fits: impl Fn(usize, usize) -> bool,
) -> Option<Vec<usize>> {
    if wants > offers {
        return None;
    }
    let mut taken: Vec<Option<usize>> = vec![None; offers];
    for want in 0..wants {
        if !serve(want, &mut taken, &mut vec![false; offers], &fits) {
            return None;
        }
    }
    let mut served = vec![0; wants];
    for (offer, want) in taken.into_iter().enumerate() {
        if let Some(slot) = want.and_then(|want| served.get_mut(want)) {
            *slot = offer;
        }
    }
    Some(served)
}

fn serve(
    want: usize,
    taken: &mut [Option<usize>],
    tried: &mut [bool],
    fits: &impl Fn(usize, usize) -> bool,
) -> bool {
    for offer in 0..taken.len() {
        let Some(seen) = tried.get_mut(offer) else {
            continue;
        };
        if *seen || !fits(want, offer) {
            continue;
        }
        *seen = true;
        let holder = taken.get(offer).copied().flatten();
        if holder.is_none_or(|holder| serve(holder, taken, tried, fits)) {
            if let Some(slot) = taken.get_mut(offer) {
                *slot = Some(want);
            }
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every way to serve, tried one after the other.
    fn exists(want: usize, wants: usize, free: &mut Vec<bool>, fits: &[Vec<bool>]) -> bool {
        if want == wants {
            return true;
        }
        for offer in 0..free.len() {
            if free[offer] && fits[want][offer] {
                free[offer] = false;
                let found = exists(want + 1, wants, free, fits);
                free[offer] = true;
                if found {
                    return true;
                }
            }
        }
        false
    }

    proptest! {
        #[test]
        fn a_match_is_found_whenever_there_is_one(
            fits in proptest::collection::vec(proptest::collection::vec(any::<bool>(), 6), 0..6)
        ) {
            let found = match_all(fits.len(), 6, |want, offer| fits[want][offer]);
            prop_assert_eq!(found.is_some(), exists(0, fits.len(), &mut vec![true; 6], &fits));
            if let Some(found) = found {
                let mut distinct = found.clone();
                distinct.sort_unstable();
                distinct.dedup();
                prop_assert_eq!(distinct.len(), fits.len());
                prop_assert!(found.iter().enumerate().all(|(want, offer)| fits[want][*offer]));
            }
        }
    }
}
