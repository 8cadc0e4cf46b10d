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

# lamina_test(folder SOURCES a_test.cc … DEPS folder … LIBS … [SHARDS n] [SERIAL filter]): one gtest program per folder.
# SHARDS runs it as that many entries of ctest, side by side. SERIAL names, as --gtest_filter does, the tests of code
# that never shares anything between threads: the thread sanitizer, ten times slower, has nothing to see there.
function(lamina_test name)
  cmake_parse_arguments(ARG "" "SHARDS;SERIAL" "SOURCES;DEPS;LIBS" ${ARGN})
  add_executable(${name}_test ${ARG_SOURCES})
  lamina_common_options(${name}_test)
  if(LAMINA_SANITIZE MATCHES address)
    # What is tested is optimized; of the tests themselves half the time to compile would go there.
    target_compile_options(${name}_test PRIVATE -O0)
  endif()
  list(TRANSFORM ARG_DEPS PREPEND lamina_)
  target_link_libraries(${name}_test PRIVATE ${ARG_DEPS} ${ARG_LIBS} GTest::gmock GTest::gtest_main)
  set(filter "*")
  if(ARG_SERIAL AND LAMINA_SANITIZE STREQUAL "thread")
    set(filter "-${ARG_SERIAL}")
  endif()
  if(NOT ARG_SHARDS)
    set(ARG_SHARDS 1)
  endif()
  foreach(shard RANGE 1 ${ARG_SHARDS})
    set(entry ${name})
    if(ARG_SHARDS GREATER 1)
      set(entry ${name}.${shard})
    endif()
    math(EXPR index "${shard} - 1")
    add_test(NAME ${entry} COMMAND ${name}_test --gtest_brief=1 --gtest_filter=${filter})
    set_tests_properties(${entry} PROPERTIES TIMEOUT 600
      ENVIRONMENT "GTEST_TOTAL_SHARDS=${ARG_SHARDS};GTEST_SHARD_INDEX=${index}")
  endforeach()
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
