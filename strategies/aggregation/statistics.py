"""The robust statistics by their names in the settings."""

from strategies.aggregation.geometric_median import GeometricMedian
from strategies.aggregation.multi_krum import MultiKrum
from strategies.aggregation.robust import Mean, NormClip, RobustStatistic, TrimmedMean

STATISTICS: dict[str, type[RobustStatistic]] = {
    statistic.name: statistic
    for statistic in (Mean, NormClip, TrimmedMean, MultiKrum, GeometricMedian)
}
