// Answers with a greeting.
exports.handler = (request) => `${process.env.GREETING}\n`;
