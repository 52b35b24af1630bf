"""A telemedicine back end on the reference schema, as its users would write it."""
