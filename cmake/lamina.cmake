# The two functions that every folder uses.

set(LAMINA_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wold-style-cast
    -Wcast-qual -Wimplicit-fallthrough)
if(LAMINA_WERROR)
  list(APPEND LAMINA_WARNINGS -Werror)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  list(APPEND LAMINA_WARNINGS -Wthread-safety)
endif()

if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  # g++ 12 sees overlapping copies in std::string's operator+ that are not there (GCC bug 105651).
  list(APPEND LAMINA_WARNINGS -Wno-restrict)
  if(LAMINA_SANITIZE)
    # And, under the sanitizers, std::optional's of strings as uninitialized (GCC bug 105562).
    list(APPEND LAMINA_WARNINGS -Wno-maybe-uninitialized)
  endif()
endif()

function(lamina_common_options target)
  target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR})
  target_compile_options(${target} PRIVATE ${LAMINA_WARNINGS})
  if(LAMINA_SANITIZE)
    target_compile_options(${target} PUBLIC -fsanitize=${LAMINA_SANITIZE} -fno-omit-frame-pointer
                           -fno-sanitize-recover=all)
    target_link_options(${target} PUBLIC -fsanitize=${LAMINA_SANITIZE})
  endif()
endfunction()

# lamina_library(name SOURCES a.cc … DEPS base … LIBS PkgConfig::X …)
# DEPS are folders of this project and are the include policy of the folder.
function(lamina_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;LIBS" ${ARGN})
  add_library(lamina_${name} STATIC ${ARG_SOURCES})
  lamina_common_options(lamina_${name})
  list(TRANSFORM ARG_DEPS PREPEND lamina_)
  target_link_libraries(lamina_${name} PUBLIC ${ARG_DEPS} Threads::Threads PRIVATE ${ARG_LIBS})
endfunction()

# lamina_test(folder SOURCES a_test.cc … DEPS folder … LIBS …): one gtest program per folder.
function(lamina_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPS;LIBS" ${ARGN})
  add_executable(${name}_test ${ARG_SOURCES})
  lamina_common_options(${name}_test)
  list(TRANSFORM ARG_DEPS PREPEND lamina_)
  target_link_libraries(${name}_test PRIVATE ${ARG_DEPS} ${ARG_LIBS} GTest::gmock GTest::gtest_main)
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_test(NAME ${name} COMMAND ${name}_test)
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT})
endfunction()

add_custom_target(fuzzers)

# lamina_fuzzer(name SOURCES a_fuzz.cc DEPS folder …): a libFuzzer target named fuzz_<name>.
function(lamina_fuzzer name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;LIBS" ${ARGN})
  add_executable(fuzz_${name} ${ARG_SOURCES})
  lamina_common_options(fuzz_${name})
  list(TRANSFORM ARG_DEPS PREPEND lamina_)
  target_link_libraries(fuzz_${name} PRIVATE ${ARG_DEPS} ${ARG_LIBS})
  target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  add_dependencies(fuzzers fuzz_${name})
endfunction()
