//! The bootstrap against closed forms, and against simulated data whose truth is known.

use super::*;

fn width(interval: Interval) -> f64 {
    interval.1 - interval.0
}

#[test]
fn an_interval_is_as_wide_as_its_test() {
    let found = Difference { difference: 0.1, ci: (0.01, 0.19), p_value: 0.03 };
    let wider = Difference { ci: (-0.02, 0.19), p_value: 0.2, ..found };
    assert_eq!((found.raised((-0.02, 0.18), 0.2), found.raised((0.05, 0.15), 0.001)), (wider, found));
}

#[test]
fn the_same_seed_gives_the_same_interval() {
    let values: Vec<f64> = (0..50).map(|k| f64::from(k % 7)).collect();
    assert_eq!(mean(&values, 500, 3), mean(&values, 500, 3));
    assert_ne!(mean(&values, 500, 3), mean(&values, 500, 4));
}

#[test]
fn it_agrees_with_the_normal_interval_of_a_large_sample() {
    let values: Vec<f64> = (0..1000).map(|k| f64::from(u8::from(k % 10 < 3))).collect();
    let (low, high) = mean(&values, 4000, 1).unwrap();
    // 0.3 ± 1.96 · sqrt(0.3 · 0.7 / 1000)
    assert!((low - 0.2716).abs() < 0.003 && (high - 0.3284).abs() < 0.003, "{low} {high}");
}

#[test]
fn clusters_widen_the_interval_of_repeated_answers() {
    let values: Vec<f64> = (0..200).map(|k| f64::from(k / 20 % 2)).collect();
    let names: Vec<String> = (0..200).map(|k| (k / 20).to_string()).collect();
    let clusters: Vec<&str> = names.iter().map(String::as_str).collect();
    let clustered = cluster_mean(&values, &clusters, 2000, 1).unwrap();
    assert!(width(clustered) > 3.0 * width(mean(&values, 2000, 1).unwrap()));
}

#[test]
fn nothing_has_no_interval() {
    assert_eq!(mean(&[], 100, 1), None);
    assert_eq!(mean(&[1.0], 0, 1), None);
    assert_eq!(mean(&[1.0], 1, 1), Some((1.0, 1.0)));
}

#[test]
fn quantiles_as_numpy() {
    assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), Some(2.5));
    assert_eq!(quantile(&[1.0, 2.0], 1.0), Some(2.0));
}

/// Standard normal, by Box and Muller.
fn normal(rng: &mut SplitMix64) -> f64 {
    let mut uniform = || (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    let (radius, angle) = ((-2.0 * (1.0 - uniform()).ln()).sqrt(), std::f64::consts::TAU * uniform());
    radius * angle.cos()
}

/// Two arms on 60 passages of 1 to 8 questions: a passage is hard or easy for both, and favours one of them. Arm a is
/// better by `effect`, in partial credit.
struct Simulated {
    a: Vec<f64>,
    b: Vec<f64>,
    passages: Vec<String>,
}

fn simulated(rng: &mut SplitMix64, effect: f64) -> Simulated {
    let mut data = Simulated { a: Vec::new(), b: Vec::new(), passages: Vec::new() };
    for passage in 0..60 {
        let (hard, favour) = (0.2 * normal(rng), 0.2 * normal(rng));
        for _ in 0..=rng.below(8) {
            data.a.push(0.5 + hard + effect + favour + 0.1 * normal(rng));
            data.b.push(0.5 + hard + 0.1 * normal(rng));
            data.passages.push(passage.to_string());
        }
    }
    data
}

/// Of 400 simulated runs: how often the interval holds `effect`, and how often the test rejects zero.
fn trials(effect: f64, clustered: bool) -> (usize, usize) {
    let mut rng = SplitMix64::new(20_260);
    let (mut holds, mut rejects) = (0, 0);
    for seed in 0..400 {
        let data = simulated(&mut rng, effect);
        let passages: Vec<&str> = data.passages.iter().map(String::as_str).collect();
        let clusters = clustered.then_some(passages.as_slice());
        let found = paired_clusters(&data.a, &data.b, clusters, 400, seed).unwrap();
        holds += usize::from(found.ci.0 <= effect && effect <= found.ci.1);
        rejects += usize::from(found.p_value < 0.05);
    }
    (holds, rejects)
}

/// 95 % of 400 is 380; a binomial leaves 366 to 394 in 99.9 of 100 seeds, and the percentile interval of 60 clusters is a
/// little narrow.
#[test]
fn clustered_intervals_cover_what_they_say() {
    let (holds, found) = trials(0.1, true);
    assert!((360..=394).contains(&holds), "{holds} of 400");
    let (_, rejects) = trials(0.0, true);
    assert!((6..=40).contains(&rejects), "{rejects} of 400 reject a difference that is not there");
    assert!(found > 340, "only {found} of 400 find the difference");
}

/// The same questions as if they were independent: far too sure.
#[test]
fn without_clusters_the_intervals_lie() {
    let (holds, _) = trials(0.1, false);
    let (_, rejects) = trials(0.0, false);
    assert!(holds < 340 && rejects > 60, "{holds} hold, {rejects} reject");
}

#[test]
fn p_and_interval_agree() {
    let a = [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 1.0];
    let b = [0.0, 0.5, 0.0, 0.5, 0.0, 0.5, 0.5, 0.0, 1.0, 0.0];
    let found = paired_clusters(&a, &b, None::<&[&str]>, 2000, 1).unwrap();
    assert!((found.difference - 0.55).abs() < 1e-12 && found.ci.0 > 0.0 && found.p_value < 0.05, "{found:?}");
    let mirrored = paired_clusters(&b, &a, None::<&[&str]>, 2000, 1).unwrap();
    assert_eq!((mirrored.ci, mirrored.p_value), ((-found.ci.1, -found.ci.0), found.p_value));
    let equal = paired_clusters(&a, &a, None::<&[&str]>, 500, 1).unwrap();
    assert_eq!((equal.difference, equal.p_value), (0.0, 1.0));
    assert_eq!(paired_clusters(&[], &[], None::<&[&str]>, 500, 1), None);
}

#[test]
fn large_samples_are_drawn_less_often() {
    assert_eq!([0, 1000, 9536, 200_000, 50_000_000].map(resamples_for), [10_000, 10_000, 2097, 1000, 1000]);
}

/// Of 600 items one arm has eight more: no resample is beyond zero, and only 2 of 2⁸ ways of turning the signs are as far from it.
#[test]
fn the_far_tail_does_not_hang_on_the_number_of_resamples() {
    let wins: Vec<f64> = (0..600).map(|item| f64::from(u8::from(item < 8))).collect();
    let none = vec![0.0; 600];
    for resamples in [1000, 4000] {
        assert_eq!(paired(&wins, &none, None, resamples, 1).unwrap().p_value, 2.0_f64.powi(-7));
    }
    let many: Vec<f64> = (0..600).map(|item| f64::from(u8::from(item < 40))).collect();
    let found = paired(&many, &none, None, 1000, 1).unwrap().p_value;
    assert!(found > 0.0 && found < 1e-9, "1,000 resamples alone would say 0.002: {found}");
    // Four of ten clusters differ, all one way.
    let (few, clusters): (Vec<f64>, Vec<usize>) =
        (0..100).map(|item| (f64::from(u8::from(item < 40 && item % 10 == 0)), item / 10)).unzip();
    assert_eq!(paired(&few, &none[..100], Some(&clusters), 1000, 1).unwrap().p_value, 0.125);
    // Below thirty clusters as from thirty on.
    for count in [29, 30] {
        let (all, clusters): (Vec<f64>, Vec<usize>) =
            (0..10 * count).map(|item| (f64::from(u8::from(item % 10 < 3)), item / 10)).unzip();
        let found = paired(&all, &vec![0.0; 10 * count], Some(&clusters), 1000, 1).unwrap();
        assert!(found.p_value < 1e-8, "{count}: {found:?}");
    }
    let one = paired(&[1.0], &[0.0], Some(&[0]), 1000, 1).unwrap();
    assert_eq!((one.ci, one.p_value), ((-1.0, 1.0), 1.0), "of one nothing is known");
}

/// One group alone is the bootstrap of its mean, drawn alike.
#[test]
fn a_single_group_is_no_group() {
    let values: Vec<f64> = (0..60).map(|item| f64::from(u8::from(item % 3 == 0))).collect();
    let clusters: Vec<usize> = (0..60).map(|item| item / 4).collect();
    let one = std::slice::from_ref(&values);
    assert_eq!(crossed::<usize>(one, None, 500, 9), mean(&values, 500, 9));
    assert_eq!(crossed(one, Some(&clusters), 500, 9), cluster_mean(&values, &clusters, 500, 9));
    assert_eq!(crossed::<usize>(&[], None, 500, 9), None);
    assert_eq!(crossed::<usize>(&[Vec::new()], None, 500, 9), None);
}

/// Groups that agree on every item add no doubt, and no certainty; groups of different luck add theirs.
#[test]
fn the_luck_of_a_group_widens_the_interval() {
    let width = |groups: &[Vec<f64>]| {
        let (low, high) = crossed::<usize>(groups, None, 4000, 3).unwrap();
        high - low
    };
    let alike: Vec<f64> = (0..400).map(|item| f64::from(u8::from(item % 2 == 0))).collect();
    let of = |share: usize| (0..400).map(|item| f64::from(u8::from(item % 10 < share))).collect::<Vec<f64>>();
    let (one, thrice) = (width(std::slice::from_ref(&alike)), width(&vec![alike; 3]));
    assert!((one - thrice).abs() < 0.1 * one, "{one} {thrice}");
    let apart = [of(2), of(5), of(8)];
    // Of three shares 0.2, 0.5, 0.8 the mean of three draws reaches from 0.2 to 0.8, rarely.
    assert!(width(&apart) > 4.0 * one, "{} {one}", width(&apart));
    let middle = apart.iter().flatten().sum::<f64>() / 1200.0;
    let (low, high) = crossed::<usize>(&apart, None, 4000, 3).unwrap();
    assert!(low < middle && middle < high && (middle - 0.5).abs() < 1e-9, "{low} {middle} {high}");
}
