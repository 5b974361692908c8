"""Public measurements as statements of a model: data, prediction and systematic uncertainties of each experiment."""
